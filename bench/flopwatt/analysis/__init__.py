"""From run files to answers: tables, comparisons, reports. Works from files alone."""
