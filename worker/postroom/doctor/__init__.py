"""`postroom doctor`: one check a file, in the order of `examination.py`."""
