"""Exports of labelling tools and files of benchmarks, recognised by their content; one file a format."""
