"""Everything that only a GPU can show, in one program: ``python run.py gpu``."""
