"""An example of a policy plugin for metta."""
