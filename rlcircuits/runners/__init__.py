"""Run the stages of a release elsewhere than in this process, so that this one only compares their results."""
