"""Files that people bring: recognised by their keys and shapes, and read with numpy alone."""
