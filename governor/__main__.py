"""`python -m governor` is the `governor` command."""

from governor.cli import main

if __name__ == "__main__":
    main()
