"""The engines behind the interface, one file each."""

__all__: list[str] = []
