"""Has a repayment been reported, once?"""
