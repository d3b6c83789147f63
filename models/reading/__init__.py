"""The reading side: any conforming dataset folder as key slices, context in millimetres, training samples."""
