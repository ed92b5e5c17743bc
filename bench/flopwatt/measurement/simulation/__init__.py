"""A GPU, its power sensor and its timer that are not there, in virtual time, described by a scenario file."""
