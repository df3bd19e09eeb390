"""What Azure has beside Entra and Graph: the identity of a machine, and a key vault."""
