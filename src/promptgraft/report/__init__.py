"""Tables, plots and pages that report the results of a study."""
