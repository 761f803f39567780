"""Deep Learning, Checked: the package the book is built from."""
