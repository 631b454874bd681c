"""`python -m metta_cli` is `metta`."""

from metta_cli.cli.main import main

if __name__ == "__main__":
    main()
