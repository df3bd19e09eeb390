"""`python -m tests.faults.command …` is `postroom …`, halted where its environment says (halting.py)."""

from postroom.cli.main import main

from .halting import obey

if __name__ == "__main__":
    obey()
    main()
