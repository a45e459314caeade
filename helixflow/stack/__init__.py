"""`manage.py up`: the embedded servers and HelixFlow's own processes, supervised. docs/embedded.md."""
