"""How the demo's base models were made and measured. Nothing here is needed to run the demo.

Status: stable, see tests/headless/test_demo_assets.py.
"""
