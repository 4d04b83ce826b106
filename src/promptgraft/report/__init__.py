"""Tables, plots and pages of what a study found."""
