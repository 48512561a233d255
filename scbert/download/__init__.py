"""Download: from addresses to whole files."""
