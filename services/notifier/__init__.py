"""What was the customer told, and when?"""
