/**
 * What Jenkinsfiles and vars/ extend: an unknown method is a variable of the library, or a step.
 *
 * Whatever goes between them is written and read again, as Jenkins does with all locals when it may restart.
 */
abstract class JenkinsScript extends Script {

    static Steps steps
    static Map library = [:]
    static Map signatures

    Object methodMissing(String name, Object given) {
        List arguments = given as List
        if (library.containsKey(name)) {
            arguments.findAll { !(it instanceof Closure) }.each { Contract.serialized(name, it) }
            return Contract.serialized(name, library[name].invokeMethod('call', given))
        }
        Contract.check(signatures[name], name, arguments)
        return Contract.serialized(name, steps.invokeMethod(name, given))
    }

    Object propertyMissing(String name) {
        Build build = steps.build
        Map known = [
            params: build.config.parameters,
            scm: 'scm',
            env: [NODE_NAME: build.place.agent?.name],
            currentBuild: new CurrentBuild(build),
        ]
        if (!known.containsKey(name)) {
            throw new MissingPropertyException(name, getClass())
        }
        return known[name]
    }

    String libraryResource(String path) {
        return new File(steps.build.config.library + '/resources/' + path).getText('UTF-8')
    }

}
