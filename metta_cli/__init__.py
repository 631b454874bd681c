"""metta: train, evaluate and compare policies on MettaGrid, from a command line and from Python."""

__version__ = "0.1.0"
