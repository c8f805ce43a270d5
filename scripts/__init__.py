"""What a person runs, and the few modules these scripts share."""
