"""The stand-in for Exchange behind Graph: mailboxes, what is in them, and the limits on their traffic."""
