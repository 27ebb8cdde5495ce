/** Somebody pressed the button. */
class UserInterruption implements Serializable { }
