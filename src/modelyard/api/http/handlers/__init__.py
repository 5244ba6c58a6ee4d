"""The paths of the application, a file for each family: each makes its handlers over a `Desk`."""
