"""Packages of training code: proven before a job runs them."""
