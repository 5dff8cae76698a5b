"""Methods that train the student to follow its teacher."""
