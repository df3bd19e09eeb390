"""The administrator's side of the stand-in: sign-in by device code, the directory's objects, Exchange's roles."""
