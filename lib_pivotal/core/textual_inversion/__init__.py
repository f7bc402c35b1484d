"""Textual inversion: trained token vectors and how captions become what the UNet gets.

Status: stable, see tests/unit/test_conditioning.py and tests/unit/test_replaced_rows.py.
"""
