/** Bindings of the store's secrets, for `withCredentials`. */
List call(Map settings) {
    List bindings = []
    for (List secret in settings.secrets) {
        bindings.add(string(variable: secret[0], credentialsId: secret[1]))
    }
    return bindings
}
