"""Sets Microsoft 365 up for Postroom, over Graph alone: an app, its certificate, and where it may send from.

`plan.py` decides, without input or output, which steps lead from what is there to what is wanted. `apply.py` does them.
"""
