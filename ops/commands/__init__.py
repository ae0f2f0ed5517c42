"""The commands beside `burnish up`; cli.py wires them."""
