<?php

/**
 * What of the extension's suite cannot hold for PHP code, and why: reason => tests (as fnmatch() has it), which are
 * skipped with that reason. Everything else in the folders that script/test polyfill runs has to pass.
 */

declare(strict_types=1);

use ClusterLock\Tests\Support\Php;

$onlyHere = Php::survivesRecursion() ? [] : [
    'This PHP runs no shutdown function when calls nested too deep have used up the memory' => [
        'LifeCycle\RequestEndTest::testACommandLeavesNoLock with data set "memory limit in recursion*',
        'LifeCycle\RequestEndTest::testARequestToFpmLeavesNoLock with data set "memory limit in recursion*',
    ],
];

if (PHP_VERSION_ID >= 80400) {
    $onlyHere['From PHP 8.4 on fflush() leaves to a filter what it holds back, until the stream is closed'] = [
        'Flock\GateTest::testAPlainProcessWaitsUntilARequestEnds',
        'Flock\ReleaseTest::testDataThatIsFlushedAtTheEndIsThereForTheNextHolder',
    ];
}

return $onlyHere + [
    'PHP code waits for the answer to an unlock in any case' => ['Lock\UnconfirmedUnlockTest::*'],
    'PHP has no thread that renews leases while the request\'s own code runs' => [
        'Lock\RenewalTest::testALeaseOfOneSecondIsKeptForThree*',
        'Lock\RenewalTest::testItIsKeptWhilePhpIsBusy*',
        'Lock\RenewalTest::testSharedAndNestedLocksAreKeptToo*',
        'Lock\RenewalTest::testManyLocksAreKept*',
        'Lock\RenewalTest::testMaxHoldEndsTheRenewal*',
        'Lock\RenewalTest::testMaxHoldZeroIsNoLimit*',
        'Lock\RenewalTest::testRenewalStopsAtUnlock*',
        'Lock\ClusterLockTest::testItIsRenewedWhileItLives*',
        'LifeCycle\ForkTest::testTheParentsLeaseIsRenewedAfterAFork*',
        'LifeCycle\KilledProcessTest::testAHolderStoppedBeyondItsLeaseFindsOut*',
        'LifeCycle\SignalTest::testTheThreadLeavesAllSignalsToPhp*',
        'Redis\AuthTest::testTheRightsOfTheReadmeSuffice',
        'Redis\ClientKillTest::testALeaseIsRenewedOverANewConnection',
        'Redis\DataLossTest::testScriptFlushIsNotNoticed',
        'Redis\TlsTest::testACaOfOurOwnIsTrusted',
        'Redis\RefusalTest::testALockCanBeGivenBackWhenTheServerIsFull',
        'Flock\GateTest::testTheLeaseIsKeptWhileAPlainHolderIsAwaited',
        'Flock\ReleaseTest::testTheLeaseIsKeptAliveWhileItIsLocked',
        'Inspect\BreakTest::testARenewalFindsTheBreakAndStops*',
    ],
    'Sentinels, clusters and quorums need the extension' => [
        'Inspect\ServersTest::testEveryServerOfAQuorumIsAsked',
        'Inspect\ServersTest::testTheServerOfAQuorumOnWhichNobodyCanWaitIsNamed',
        'Redis\QuorumTest::*',
        'Redis\SentinelTest::*',
    ],
    'What the client library does with a reply that is no reply, nobody can mend from outside' => [
        'Redis\UnavailableTest::testNonsenseIsAWarning with data set "a huge length"*',
        'Redis\UnavailableTest::testNonsenseIsAWarning with data set "a negative length"*',
        'Redis\UnavailableTest::testNonsenseIsAWarning with data set "deep nesting"*',
    ],
    'PHP code opens files by their paths, which another process may change in between' => [
        'Security\OpenBasedirTest::testASwappedDirectoryLeadsNobodyOut',
    ],
    'PHP code makes a connection for each request' => [
        'LifeCycle\FpmWorkerTest::testAThousandRequestsNeedNoNewConnection',
    ],
    'PHP code cannot intercept flock()' => [
        'Flock\GateTest::testALocalFileIsNeitherSyncedNorForgotten*',
        'Flock\KeyTest::testAFileThatIsNotInterceptedCanBeLockedByName',
        'Flock\SlowWaitTest::testAnInterceptedWaitIsOneLineToo',
        'Inspect\CallTest::testALockOnAFileNamesItsCaller with data set "flock()"*',
        'Inspect\CallTest::testALockOnAFileNamesItsCaller with data set "SplFileObject::flock()"*',
        'Flock\ChildrenTest::testTheLockEndsWithItsOwner with data set "*, flock(), *"*',
        'Flock\ChildrenTest::testTheLockEndsWithItsOwner with data set "*, cluster_flock(), replace"*',
        'Flock\ChildrenTest::testTheLockOfAKilledProcessEndsWithItsLease with data set "flock(), *"*',
        'Flock\ChildrenTest::testAStreamIsInheritedAgainWhenItIsUnlocked with data set "flock(), *"*',
        'File\SourceTest::testAHandler* with data set "file_put_contents()*',
    ],
    'A program that PHP starts inherits the open file, and with it the kernel\'s lock: LOCK_UN frees it, fclose() does not' => [
        'Flock\ChildrenTest::testTheLockEndsWithItsOwner with data set "fclose(), cluster_flock(), gate"*',
        'Flock\ChildrenTest::testTheLockEndsWithItsOwner with data set "no variable, cluster_flock(), gate"*',
        'Flock\ChildrenTest::testTheLockOfAKilledProcessEndsWithItsLease with data set "cluster_flock(), gate"*',
        'Flock\ChildrenTest::testAStreamIsInheritedAgainWhenItIsUnlocked with data set "cluster_flock(), gate"*',
    ],
    'PHP code cannot tell that two streams share one open file' => [
        'Flock\KeyTest::testASecondDescriptorSharesTheLock',
    ],
    'PHP has no functions for extended attributes and ACLs' => [
        'File\AttributesTest::testAttributesAndAclAreKept',
    ],
    'PHP code is loaded from files, for which a descriptor has to be free' => [
        'File\FailureTest::testTooManyOpenFilesIsAWarning',
    ],
    'There are no ini entries without an extension: tests/SettingsTest.php tests configure()' => [
        'Surface\ContractTest::testTheSettingsHaveTheseDefaultsAndPlacesOfChange',
        'Surface\SettingsTest::testABadValueIsRefused*',
        'Surface\SettingsTest::testAGoodValueIsTaken*',
        'Surface\SettingsTest::testSystemSettingsCannotBeChangedAtRunTime',
        'Surface\SettingsTest::testAnEnvironmentVariableCanBeUsed',
        'Surface\SettingsTest::testAPoolThatIsRightMends*',
        'Surface\SettingsTest::testWhat*',
        'Surface\CommandTest::*',
        'Flock\GateTest::testItIsTheDefault',
        'LifeCycle\RequestEndTest::testTheNextRequestOfTheWorkerStartsClean*',
        'Security\MessagesTest::testPhpinfoHasNoMarkUpOfOthers',
        'Security\SecretsTest::testSectionsOfPhpIniAreNotShown',
        'Security\SecretsTest::testEachVirtualHostUsesItsOwnServerAndShowsNoPassword',
        'Security\SecretsTest::testTwoPrefixesInOneProcessAreTwoNamespaces',
        'Security\SecretsTest::testAPoolsDsnIsNotShown',
    ],
    'There is no module without an extension' => [
        'Surface\ModuleTest::*',
    ],
    'PHP takes the arguments of functions that are written in PHP more strictly, or with other words' => [
        'Surface\ArgumentErrorsTest::testAMistakeIsNamed with data set "*: no name"*',
        'Surface\ArgumentErrorsTest::testAMistakeIsNamed with data set "too *"*',
        'Surface\ArgumentErrorsTest::testAMistakeIsNamed with data set "*too many"*',
        'Surface\ArgumentErrorsTest::testAMistakeIsNamed with data set "status with an argument"*',
        'Surface\CoercionTest::testStrictModeRefuses',
        'Surface\CoercionTest::testNullForANameIsDeprecatedAsEver',
    ],
    'A type of a parameter of PHP code would refuse private methods of the caller' => [
        'Surface\ContractTest::testTheFunctionHasThisSignature with data set "cluster_synchronized"*',
        'Surface\ContractTest::testTheFunctionHasThisSignature with data set "cluster_coalesced"*',
        'Surface\ContractTest::testTheFunctionHasThisSignature with data set "cluster_file_build"*',
    ],
    'A class written in PHP forbids cloning by methods, which Reflection shows; its constructor can be gone round' => [
        'Surface\ContractTest::testTheClassIsFinalWithOneReadonlyName',
        'Surface\StubTest::testReflectionOfTheExtensionIsReflectionOfTheStub',
        'Surface\ObjectsTest::testItCannotBeMadeWithoutItsConstructor',
    ],
    'PHP code is not loaded by dl()' => [
        'LifeCycle\LoadedLateTest::*',
    ],
];
