"""Profiles: where the time of a process goes, where its tasks wait, where its memory was taken."""
