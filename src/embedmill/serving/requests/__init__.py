"""What protocols share: requests become rows, rows vectors; names of models, shapes of errors, tensors."""
