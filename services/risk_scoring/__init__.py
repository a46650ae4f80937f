"""May the credit go back now, in part, later, or after a look?"""
