"""One readable training loop, its checkpoints, and the folder in which a model travels."""
