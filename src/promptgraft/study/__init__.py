"""Plans that expand into jobs, and what their results say."""
