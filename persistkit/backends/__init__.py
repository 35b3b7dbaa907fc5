"""The engines behind the interface, one file each."""
