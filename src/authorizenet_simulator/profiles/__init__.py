"""Customer profiles (CIM): the requests that create, charge and show them."""
