"""Hostile inputs for every reader: valid documents and files, mutated with knowledge of their structure.

A reader returns, or raises HeliographError, within bounds of time and memory. A live cluster answers honest requests
after each batch, and no process of it ends. Failing inputs are minimised and can be replayed.
"""
