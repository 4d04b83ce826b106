"""A study is a plan that expands into jobs, and a judgement of their results."""
