"""The programs that made and measured the demo's base models. Nothing here is needed to run the demo.

Status: stable, see tests/headless/test_demo_assets.py.
"""
