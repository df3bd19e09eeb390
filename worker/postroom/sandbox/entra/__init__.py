"""The stand-in for Entra: its endpoints, the apps of the tenant, and the tokens that it issues."""
