"""What every room needs: errors, files, validation, limits, progress, devices."""
