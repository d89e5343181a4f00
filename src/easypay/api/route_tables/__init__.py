"""The table of routes, by what the calls are about; `routes.ROUTES` joins the parts."""
