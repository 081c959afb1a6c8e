"""The folder that an export writes: its contents, checked against its manifest."""
