"""Settlement: what became of captured money at the bank, told to payments and to finance."""
