"""What is made for a release beside wheel, sdist and image: `make dist`."""
