"""What every room speaks: values, errors, file names, atomic files, the result schema, the protocols."""
