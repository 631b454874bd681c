"""YAML files that ship with metta: environments, suites, hardware, policies, users."""
