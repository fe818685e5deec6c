"""A page in the browser that shows what a classifier makes of the images dropped on it; nothing leaves the machine."""
