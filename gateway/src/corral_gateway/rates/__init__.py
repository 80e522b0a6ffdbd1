"""How often: requests counted by caller, route, tool and all together, here or in a store that gateways share."""
