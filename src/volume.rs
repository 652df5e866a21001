//! A volume's life: publish, republish, unpublish.
